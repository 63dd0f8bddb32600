"""Apache Kafka's own tools: found, or fetched by Maven from the list in `jars.txt`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

LIST = Path(__file__).with_name("jars.txt")

POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>kcluster</groupId><artifactId>test-java</artifactId><version>1</version>
<packaging>pom</packaging><dependencies>{}</dependencies></project>"""

DEPENDENCY = (
    "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
)

LOG4J = """<Configuration><Appenders><Console name="c" target="SYSTEM_ERR"/></Appenders>
<Loggers><Root level="WARN"><AppenderRef ref="c"/></Root></Loggers></Configuration>"""


def coordinates() -> list[list[str]]:
    """[group, artifact, version] of each."""
    lines = (line.strip() for line in LIST.read_text().splitlines())
    return [line.split(":") for line in lines if line and not line.startswith("#")]


def jars() -> Path:
    """The folder that has them all. Skips, aloud, where there is no Java, or neither jars nor
    Maven."""
    if shutil.which("java") is None:
        pytest.skip("java is not installed")
    given = os.environ.get("KCLUSTER_KAFKA_JARS")
    folder = Path(given) if given else Path.home() / ".cache" / "kafka-peer" / "libs"
    wanted = [folder / f"{artifact}-{version}.jar" for _, artifact, version in coordinates()]
    if all(jar.exists() for jar in wanted):
        return folder
    if shutil.which("mvn") is None:
        pytest.skip(f"{folder} lacks jars of {LIST.name}, and mvn is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    pom = folder / "pom.xml"
    pom.write_text(POM.format("".join(DEPENDENCY.format(*each) for each in coordinates())))
    copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    subprocess.run(["mvn", "-q", "-B", "-f", str(pom), *copy], check=True, timeout=900)
    return folder


def command(tool: str, *arguments: str, heap: str = "256M") -> list[str]:
    """That runs `org.apache.kafka.tools.<tool>`."""
    folder = jars()
    log4j = folder / "kcluster-log4j2.xml"
    if not log4j.exists():
        log4j.write_text(LOG4J)
    java = ["java", f"-Xmx{heap}", f"-Dlog4j2.configurationFile={log4j}", "-cp", f"{folder}/*"]
    return [*java, f"org.apache.kafka.tools.{tool}", *arguments]


def run(tool: str, *arguments: str, timeout_s: float = 120, heap: str = "256M") -> str:
    """Its standard output; it must end with 0."""
    done = subprocess.run(
        command(tool, *arguments, heap=heap),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{tool}: {done.stdout}\n{done.stderr}"
    return done.stdout

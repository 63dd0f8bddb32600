"""`kcluster doctor`: is this machine fit, and is this cluster?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from kcluster.cli import output
from kcluster.cli.options import DEFAULT_CLUSTER, ClusterName, Format, OutputFormat

if TYPE_CHECKING:
    from kcluster.processes.machine import Finding

app = typer.Typer()

EXIT_WRONG = 10


@app.command()
def doctor(
    cluster: ClusterName = DEFAULT_CLUSTER, output_format: OutputFormat = Format.TABLE
) -> int:
    """Check whether this machine is fit for clusters, and whether a cluster is well.

    ✓ fine, ! may become a trouble, ✗ wrong: then the exit code is 10. Nothing is changed.

    \b
    kcluster doctor -c dev
    """
    from kcluster.processes.checkup import check_cluster
    from kcluster.processes.machine import OK, WARNING, WRONG, check_machine
    from kcluster.processes.workdir import data_home, locate

    locate(cluster)  # refuses what can be no name before anything is said
    found: list[Finding] = []
    for checks in (check_machine(data_home()), check_cluster(cluster)):
        for finding in checks:
            found.append(finding)
            if output_format is not Format.JSON:
                output.finding(finding.verdict, finding.check, finding.text, finding.hint)
    wrong = sum(finding.verdict == WRONG for finding in found)
    if output_format is Format.JSON:
        output.json({"schema": 1, "cluster": cluster, "checks": found})
    else:
        warned = sum(finding.verdict == WARNING for finding in found)
        fine = sum(finding.verdict == OK for finding in found)
        output.note(f"{fine} fine, {warned} to look at, {wrong} wrong")
    return EXIT_WRONG if wrong else 0

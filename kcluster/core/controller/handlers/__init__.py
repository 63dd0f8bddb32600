"""What the controller answers for brokers: one file for each API of Kafka's."""

"""The fake World: the production cores over a network, disks and clocks made from one seed.

Nothing here has its own idea of what a broker does; what runs is `core`, by the same `run_turn`.
"""

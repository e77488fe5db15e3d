"""Simulation: the real engine on a simulated disk, in simulated processes. Begin with `machine.simulated`."""

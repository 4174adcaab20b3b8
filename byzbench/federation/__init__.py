"""The federation of agents: communication graph, network, adversary and accounting."""

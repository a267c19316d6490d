"""What several tests share: a checkout of the project, a stand-in hub, small models, faults."""

"""Helpers of several tests: a checkout of the project, a stand-in hub, small models, faults."""

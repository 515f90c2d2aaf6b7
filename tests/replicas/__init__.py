"""Several services and watchers at once: leases, sources of counters, faults between them."""

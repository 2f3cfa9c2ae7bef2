"""The policies: settings, locks and words around the pure machines. Each module holds one."""

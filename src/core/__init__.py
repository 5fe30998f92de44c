"""The runtime: state, sessions, scheduler and wire. It knows no socket, no HTTP and no notebook."""

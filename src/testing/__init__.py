"""What the tests of an application need, and what our own tests use."""

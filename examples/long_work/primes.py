"""What the processes of the pool import: nothing of the app, and nothing of Greenroom."""


def count(begin, end):
    """How many primes there are from `begin` up to, but not including, `end`."""
    return sum(is_prime(n) for n in range(begin, end))


def is_prime(n):
    if n < 2:
        return False
    return all(n % divisor for divisor in range(2, int(n**0.5) + 1))

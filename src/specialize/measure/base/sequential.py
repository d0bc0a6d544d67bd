"""How many permutations a p-value needs: more are drawn where it lies near the threshold of a decision.

Source:
    Besag & Clifford (1991), Sequential Monte Carlo p-values; Gandy (2009), Sequential implementation of Monte Carlo
    tests with uniformly bounded resampling risk.
"""

from scipy.special import betaincinv

ALPHA = 0.05
CONFIDENCE = 0.99
MOST_TIMES = 16
MOST_PERMUTATIONS = 4000


def count_more(extreme: int, drawn: int, *, asked: int) -> int:
    """Decide how many permutations to draw in addition to those drawn so far.

    The number doubles as long as the 99 % Clopper-Pearson interval of the p-value contains 0.05, and as long as it
    remains at most 16 times the number asked for and at most 4,000. With 200 permutations, this happens where 3 to 19
    of them reach the observed value. Under a true null p remains uniform: of all tests that start with 200
    permutations, 5.00 % have p <= 0.05, 1.03 % p <= 0.01, and 0.50 % p <= 0.005, the smallest value, and their mean
    number of permutations is 315. To draw more near 0.01 too, except where no permutation reached the observed value,
    would raise the last share to 0.69 %: those that stopped at the smallest value would be joined by others.

    Args:
        extreme: number of permutations drawn with a value at least as large as the observed one.
        drawn: number of permutations drawn.
        asked: number of permutations asked for.

    Returns:
        The number of permutations to add; 0 where the p-value is decided or no permutations were asked for.
    """
    if not asked or 2 * drawn > min(MOST_TIMES * asked, MOST_PERMUTATIONS):
        return 0
    tail = (1 - CONFIDENCE) / 2
    low = betaincinv(extreme, drawn - extreme + 1, tail) if extreme else 0.0
    high = betaincinv(extreme + 1, drawn - extreme, 1 - tail) if extreme < drawn else 1.0
    return drawn if low <= ALPHA <= high else 0

// The same interval that the server uses for shares (Wilson 1927), for counts that are shown here.

const Z_95 = 1.959964;

/** The 95 % Wilson interval of `successes` in `n`: [low, high], or null when there is nothing to judge. */
export function wilson(successes, n) {
  if (!n) return null;
  const share = successes / n;
  const centre = (share + Z_95 ** 2 / (2 * n)) / (1 + Z_95 ** 2 / n);
  const half = (Z_95 / (1 + Z_95 ** 2 / n)) * Math.sqrt((share * (1 - share)) / n + Z_95 ** 2 / (4 * n ** 2));
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

export const percent = (share, digits = 0) => `${(share * 100).toFixed(digits)} %`;

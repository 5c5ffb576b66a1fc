"""Roll-ups: counts, sums and histograms of intervals, which outlive the rows that they are of."""

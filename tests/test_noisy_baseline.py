"""Intervals that hold when the baseline is noisier than the methods: how the rule in analysis/comparing/model.py was chosen.

Tables without any true gain should show one in at most 5 % of cases. Candidates:

- pooled: one noise level for all rows;
- always: the baseline always has its own, estimated from the differences baseline - mean of the methods;
- tested at 10, 25 or 50 %: its own only if an F test finds it noisier, one-sided, otherwise pooled;

the last two with Satterthwaite's degrees of freedom or with Behrens and Fisher's convolution of the two t parts.

Rule for choosing, written down before any number was seen:

1. Admissible: false finds in at most 8 % of tables for every k <= 3 (the baseline's standard deviation over the methods') with
   three and five seeds; with ten seeds no more than pooled in any cell: k, one method twice as noisy as the others, and rows
   whose standard deviations are spread log-normally (sigma 0.3).
2. Of these, the one with the highest power for a true gain of 3.2 standard deviations of a method, averaged over k = 1 and 2 with
   three and five seeds. If others come within one percentage point, the simplest of them: Satterthwaite before Behrens and
   Fisher, 25 % before other levels.
3. Extra seeds of the baseline that no method has: not used ("paired"); used without pairing ("unpaired"), in all tables or only
   where the test finds the baseline noisier; or with random seed effects ("random"), in all tables or only where the test does not.
   Admissible: at most 8 % in every cell of k <= 3, standard deviation of the seeds 0, 1 and 3 (in those of a method), three
   and ten extra seeds, three and five shared ones. Of these, the one with the highest average power that loses at most two
   percentage points to "paired" in any cell.

Differences of two standard errors of the simulation or less do not count as more.
"""

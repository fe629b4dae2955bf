"""Storms: faults and people's deeds at random, against the whole product, with a checker.

`make chaos SECONDS=600 SEED=7` plays storms one after the other, each in a project of its own.
`deeds` decides everything from the seed; `faults` and `people` do it; `seen` reads what came of it;
`invariants` says what is wrong with that; `storm` puts these together.
"""

"""Four rooms with a goal that moves (Bacon, Harb and Precup 2017, arXiv:1609.05140, section 5), with tabular agents:
option-critic, an actor-critic with one option, SARSA.

    python -m baselines.four_rooms --out FOLDER
"""

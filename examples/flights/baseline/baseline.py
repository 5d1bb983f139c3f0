#!/usr/bin/env python3
"""A batch model beside the online ones of the example `flights -- --predict`.

Gradient boosting (scikit-learn's HistGradientBoostingRegressor, absolute error) learns from all flights of the months
before and predicts the next month, from February to December. It gets what the online models got at the same moment (the
topic `examples`), and the airport, carrier and destination as categories. Both are judged on the same flights.

    cargo run --release --example flights -- --predict --examples --months 12 --speed max --until-end --topics file:/tmp/flights
    python3 -m venv venv && venv/bin/pip install -r examples/flights/baseline/requirements.txt
    venv/bin/python examples/flights/baseline/baseline.py /tmp/flights
"""

import argparse
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

ONLINE = ["network", "line", "airport_mean", "hour_mean", "airport_median"]


def lines(folder, topic):
    """The messages of a topic in files, of all partitions."""
    parts = sorted((folder / topic).glob("*.jsonl"))
    if not parts:
        raise SystemExit(f"there is no topic {topic} in {folder}: run the example with --examples first")
    for part in parts:
        with part.open() as text:
            yield from map(json.loads, text)


def read(folder):
    """Features, delays, what the online models said, and the month in New York; a flight a row, by departure."""
    outcomes = {(o["flight"], o["origin"], o["scheduled"]): o for o in lines(folder, "outcomes")}
    rows = []
    for example in lines(folder, "examples"):
        leg = example["leg"]
        outcome = outcomes.get((leg["flight"], leg["origin"], leg["scheduled"]))
        if outcome is not None:  # the others were cancelled
            rows.append((leg["scheduled"], leg["flight"], leg, example["features"], outcome))
    rows.sort(key=lambda row: row[:2])
    codes = {}
    for name in ["origin", "carrier", "dest"]:
        codes[name] = {code: n for n, code in enumerate(sorted({leg[name] for _, _, leg, _, _ in rows}))}
    categories = [[codes[name][leg[name]] for name in codes] for _, _, leg, _, _ in rows]
    features = np.column_stack([np.array([row[3] for row in rows]), categories])
    actual = np.array([row[4]["actual"] for row in rows])
    online = np.array([[row[4][name] for name in ONLINE] for row in rows])
    new_york = timezone(timedelta(hours=-5))
    months = np.array([datetime.fromtimestamp(row[0] / 1000, new_york).month for row in rows])
    return features, actual, online, months


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the topics are")
    folder = parser.parse_args().folder
    features, actual, online, months = read(folder)
    categorical = list(range(features.shape[1] - 3, features.shape[1]))
    names = ["flights", "batch", *ONLINE]
    print(f"{'month':>5}" + "".join(f"{name:>15}" for name in names))
    errors = []
    for month in range(2, months.max() + 1):
        past, now = months < month, months == month
        model = HistGradientBoostingRegressor(
            loss="absolute_error",
            max_iter=300,
            learning_rate=0.08,
            max_leaf_nodes=63,
            min_samples_leaf=60,
            l2_regularization=1.0,
            categorical_features=categorical,
            random_state=0,
        )
        model.fit(features[past], actual[past])
        said = np.column_stack([model.predict(features[now]), online[now]])
        errors.append(np.abs(said - actual[now, None]))
        print_row(month, errors[-1])
    print_row("all", np.concatenate(errors))


def print_row(name, errors):
    print(f"{name:>5}{len(errors):>15,}" + "".join(f"{error:>15.2f}" for error in errors.mean(axis=0)), flush=True)


if __name__ == "__main__":
    main()

"""What other tools say of a set of pictures: run by a Python of their own, with their packages.

``python other_tools.py TOOL SET.npz``: the set has `images` (n, h, w[, 3]) uint8, `labels` (n,) and
`probabilities` (n, classes), which are cross-validated. Prints one JSON object of numbers.

Source: ours; calls cleanlab's Datalab (with CleanVision) and deepchecks as they document it.
"""

import contextlib
import io
import json
import sys
import warnings

import numpy as np


def datalab(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> dict:
    """Datalab: does a property of the pictures tell the label, and which labels look wrong."""
    from cleanlab import Datalab
    from datasets import Dataset
    from PIL import Image

    pictures = [Image.fromarray(image) for image in images]
    columns = {"image": pictures, "label": labels.tolist()}
    lab = Datalab(Dataset.from_dict(columns), label_name="label", image_key="image", verbosity=0)
    with contextlib.redirect_stdout(io.StringIO()):
        lab.find_issues(pred_probs=probabilities)
    scores = lab.get_info("spurious_correlations")["correlations_df"].set_index("property")["score"]
    wrong = lab.get_issues("label")["is_label_issue"].to_numpy()
    return {
        "figure": float(scores.min()), "property": str(scores.idxmin()).removesuffix("_score"),
        "flagged": float(scores.min() < lab.get_info("spurious_correlations")["threshold"]),
        "doubted": np.flatnonzero(wrong).tolist(),
    }  # fmt: skip


def deepchecks(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> dict:
    """Predictive power score of each property of the pictures; flagged from its default on."""
    from deepchecks.vision import VisionData
    from deepchecks.vision.checks import PropertyLabelCorrelation

    pictures = images[..., None] if images.ndim == 3 else images
    batch = {"images": list(pictures), "labels": labels.tolist()}
    # without names the labels would be lost, and all scores 0
    names = {int(label): str(label) for label in np.unique(labels)}
    data = VisionData([batch], task_type="classification", reshuffle_data=False, label_map=names)
    result = PropertyLabelCorrelation().add_condition_property_pps_less_than().run(data)
    scores = result.value
    best = max(scores, key=scores.get)
    passed = result.conditions_results[0].is_pass()
    return {"figure": float(scores[best]), "property": best, "flagged": float(not passed)}


TOOLS = {"Datalab": datalab, "deepchecks": deepchecks}

if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    with np.load(sys.argv[2]) as given:
        said = TOOLS[sys.argv[1]](given["images"], given["labels"], given["probabilities"])
    print(json.dumps(said))

"""Write the network of GrainLearning's rnn_model in the forms that Keras 2 has: needs `tf_keras`.

The weights are random. Layers of other models come first, as in a session that has trained before, so that Keras
numbers the layers dense_9 and dense_10.
"""

import shutil
from pathlib import Path

import numpy as np
import tf_keras as keras

HERE = Path(__file__).parent


def network() -> keras.Model:
    keras.utils.set_random_seed(7)
    for _ in range(9):
        keras.layers.Dense(1)
        keras.layers.LSTM(1)
    sequence, params = keras.layers.Input((4, 1), name="inputs"), keras.layers.Input((6,), name="params")
    state = [keras.layers.Dense(5, "tanh", name=name)(params) for name in ("state_h", "state_c")]
    hidden = keras.layers.LSTM(5)(sequence, initial_state=state)
    hidden = keras.layers.Dense(5, "relu")(hidden)
    return keras.Model([sequence, params], keras.layers.Dense(5)(hidden))


def main() -> None:
    model = network()
    model.compile("adam", "mse", metrics=["mae"])
    rng = np.random.default_rng(0)
    model.fit([rng.normal(size=(8, 4, 1)), rng.normal(size=(8, 6))], rng.normal(size=(8, 5)), verbose=0)
    model.set_weights([values + rng.normal(scale=0.1, size=values.shape) for values in model.get_weights()])
    for folder in ("whole", "weights", "new_weights", "saved_model"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
        (HERE / folder).mkdir()
    model.save(HERE / "whole" / "model-best.h5")
    model.save_weights(HERE / "weights" / "weights.h5")
    model.save_weights(HERE / "new_weights" / "model.weights.h5")
    model.save(HERE / "saved_model", save_format="tf", save_traces=False)  # the traces are large, and never read
    np.savez(HERE / "weights.npz", **{variable.name: variable.numpy() for variable in model.weights})


if __name__ == "__main__":
    main()

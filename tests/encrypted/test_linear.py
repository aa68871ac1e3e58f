"""What counts as a linear model, and what is refused."""

import numpy as np
import pytest

from compliance.encrypted.inference import Client, Server
from compliance.encrypted.linear import LinearModel
from compliance.errors import InputError

X = np.random.default_rng(3).normal(size=(200, 4))
Y = (X @ [1.0, -2.0, 0.5, 0.0] + 0.3 > 0).astype(int)


def through_encryption(model, rows, **options):
    client = Client(rows.shape[1])
    server = Server(LinearModel.of(model, **options), client.public_context())
    return client, server.score(client.encrypt(rows))


def test_a_logistic_regression_gives_the_probabilities_that_scikit_learn_gives():
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit(X, Y)
    client, answer = through_encryption(model, X)
    expected = model.predict_proba(X)[:, 1]
    np.testing.assert_allclose(client.probabilities(answer), expected, atol=1e-8)


@pytest.mark.parametrize("name", ["LinearRegression", "Ridge"])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_a_regression_gives_the_predictions_that_scikit_learn_gives(name, shape):
    from sklearn import linear_model

    model = getattr(linear_model, name)().fit(X, (X @ [1.0, 2.0, 3.0, 4.0]).reshape(shape))
    client, answer = through_encryption(model, X)
    np.testing.assert_allclose(client.scores(answer), model.predict(X).ravel(), atol=1e-8)


@pytest.mark.parametrize("bias", [True, False])
def test_a_torch_layer_gives_its_own_output(bias):
    import torch

    layer = torch.nn.Linear(4, 1, bias=bias, dtype=torch.float64)
    client, answer = through_encryption(layer, X, logistic=True)
    expected = torch.sigmoid(layer(torch.tensor(X))).detach().numpy().ravel()
    np.testing.assert_allclose(client.probabilities(answer), expected, atol=1e-8)


def test_a_linear_model_stays_itself():
    model = LinearModel((1.0, 2.0), 3.0)
    assert LinearModel.of(model) is model


def test_three_classes_are_refused():
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit(X, np.arange(len(X)) % 3)
    with pytest.raises(InputError, match="one output"):
        LinearModel.of(model)


def test_a_layer_of_two_outputs_is_refused():
    import torch

    with pytest.raises(InputError, match="one output"):
        LinearModel.of(torch.nn.Linear(4, 2))


def test_a_model_that_is_not_fitted_is_refused():
    from sklearn.linear_model import LogisticRegression

    with pytest.raises(InputError, match="not fitted"):
        LinearModel.of(LogisticRegression())


def test_what_a_classifier_says_of_itself_cannot_be_overruled():
    from sklearn.linear_model import LogisticRegression

    with pytest.raises(InputError, match="says itself"):
        LinearModel.of(LogisticRegression().fit(X, Y), logistic=False)


def test_a_pipeline_and_a_model_with_another_link_are_refused_with_advice():
    from sklearn.linear_model import PoissonRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    for model in (PoissonRegressor(), make_pipeline(StandardScaler()), object(), (1, 2, 3), None):
        with pytest.raises(InputError, match="last step"):
            LinearModel.of(model)


@pytest.mark.parametrize(
    ("weights", "intercept"),
    [
        ([np.nan], 0.0),
        ([1.0], np.inf),
        ([2.0**20, 1.0], 0.0),
        ([1.0], -(2.0**21)),
    ],
)
def test_weights_that_would_overflow_or_are_no_numbers_are_refused(weights, intercept):
    with pytest.raises(InputError, match="finite"):
        LinearModel.of((weights, intercept))


@pytest.mark.parametrize("weights", [[], np.zeros(4097), np.zeros((2, 2)), 5.0])
def test_coefficients_of_a_wrong_shape_are_refused(weights):
    with pytest.raises(InputError, match=r"weights|one output"):
        LinearModel.of((weights, 0.0))


def test_several_intercepts_are_refused():
    with pytest.raises(InputError, match="intercept"):
        LinearModel.of(([1.0], [0.0, 1.0]))

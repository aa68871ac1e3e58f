"""Role-based access with Casbin: roles and permissions come from the policy, the model is ours."""

from __future__ import annotations

from typing import Any

from compliance.access.identity import Identity
from compliance.errors import AccessDenied
from compliance.policy import Policy

MODEL = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub) && keyMatch(r.obj, p.obj) && r.act == p.act
"""


class Authority:
    """Answers by raising: what does not raise is permitted."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._enforcer = _enforcer(policy)

    def require(self, identity: Identity, obj: str, action: str) -> None:
        """Return when the identity may do this.

        Args:
            identity: who acts.
            obj: the object, as in ``activity/credit-scoring``.
            action: the action, as in ``run``.

        Raises:
            AccessDenied: too weak a method, no right to impersonate, or no role that permits it.
        """
        self._require_method(identity, action)
        if identity.on_behalf_of is not None:
            self._require_method(identity, "impersonate")
            self._require_role(identity.actor, "identity/" + identity.on_behalf_of, "impersonate")
        self._require_role(identity.principal, obj, action)

    def _require_method(self, identity: Identity, action: str) -> None:
        least = self.policy.identity.least(action)
        if identity.method.strength < least.strength:
            raise AccessDenied(
                f"{action!r} needs an identity established by {least.value!r} or stronger, "
                f"{identity.actor!r} is only {identity.method.value!r} "
                "(policies: identity.least_method)"
            )

    def _require_role(self, principal: str, obj: str, action: str) -> None:
        if not self._enforcer.enforce(_user(principal), obj, action):
            raise AccessDenied(
                f"{principal!r} has no role that permits {action!r} on {obj!r}; "
                "see `compliance policy show roles`"
            )


def require_another(identity: Identity, person: str, action: str) -> None:
    """Return when somebody else than an earlier person acts (separation of duties).

    Raises:
        AccessDenied: the same person, also when on behalf of another.
    """
    if identity.person == person:
        raise AccessDenied(f"{action} must be done by another person than {person!r}")


def _user(name: str) -> str:
    """Users and roles live in different name spaces: a user called like a role gains nothing."""
    return f"user:{name}"


def _enforcer(policy: Policy) -> Any:
    import casbin

    model = casbin.Model()
    model.load_model_from_text(MODEL)
    enforcer = casbin.Enforcer(model)
    for name, role in policy.roles.items():
        for member in role.members:
            enforcer.add_grouping_policy(_user(member), f"role:{name}")
        for parent in role.inherits:
            enforcer.add_grouping_policy(f"role:{name}", f"role:{parent}")
        for permission in role.allow:
            for action in permission.actions:
                enforcer.add_policy(f"role:{name}", permission.object, action)
    return enforcer

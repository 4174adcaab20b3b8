"""The application of a rule to inboxes whose vectors are stored once for all receivers."""

from __future__ import annotations

from torch import Tensor

from byzbench.core import Aggregator, Inbox, LinearRule, RuleContext, RuleOutput


def apply_rule(rule: Aggregator, inbox: Inbox, receivers: Tensor, context: RuleContext) -> RuleOutput:
    """Aggregate the inboxes of some receivers, at which the rule is defined.

    A linear rule computes weights from the distances of the context. If receivers share vectors, their inboxes are not
    copied for it.

    Args:
        rule: the aggregation rule.
        inbox: the messages of all receivers.
        receivers: int64 [R'].
        context: what the rule may read for these receivers, with the distances within their inboxes.

    Returns:
        The output of the rule, a row for each of these receivers.
    """
    f = inbox.f[receivers]
    if isinstance(rule, LinearRule) and rule.traits.linear and inbox.shares_products and context.distances is not None:
        weights, state = rule.compute_weights(context.distances, f, context)
        return RuleOutput(inbox.combine(receivers, weights), weights, state)
    return rule.aggregate(inbox.base[inbox.senders[receivers]], f, context)

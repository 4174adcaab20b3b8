"""Components check themselves against the setting of an experiment."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from byzbench.attacks.sign_flip import SignFlip
from byzbench.core import Communication, Component, Setting, ThreatModel
from byzbench.errors import Undefined
from byzbench.experiments.experiment import Experiment
from byzbench.placements.first import First
from byzbench.registry import make

SERVER = Setting(5, 1, communication=Communication.SERVER, names={"algorithm": "byzpg", "topology": "ring"})


@dataclass(frozen=True)
class Oracle(SignFlip):
    """A plug-in that needs a clone of the rule."""

    @property
    def threat(self) -> ThreatModel:
        return ThreatModel(knowledge=frozenset({"own", "byzantine", "rule"}), query_budget=1)


@dataclass(frozen=True)
class Picky(First):
    """A plug-in with a requirement of its own."""

    def check(self, setting: Setting) -> None:
        super().check(setting)
        if setting.num_byzantine > 1:
            raise Undefined("picky places one Byzantine agent")


@pytest.mark.parametrize(
    "component, setting, message",
    [
        (make("algorithm", "byzpg"), SERVER, "byzpg needs a trusted server, and topology 'ring' has none"),
        (make("topology", "star"), Setting(5, has_server=True), "gossips among agents, and topology 'topology' has a"),
        (make("scenario", "churn:absent='5:0-0.5'"), Setting(5), "there is no agent 5; give 0 to 4"),
        (make("channel", "delay"), Setting(5, graph_varies=True), "which varies, messages can be neither relayed nor"),
        (make("channel", "perfect"), Setting(5, has_absences=True, relay=True), "where agents are absent messages can"),
        (make("aggregator", "krum"), Setting(5, inboxes={"aggregator": [(5, 1), (4, 2)]}), "n=4 vectors of which f=2"),
        (make("agreement", "mda"), Setting(5, inboxes={"agreement": [(2, 2)]}), "n=2 vectors of which f=2"),
        (
            Oracle(),
            Setting(5, 1, uncloneable={"gradient": "it cannot be cloned"}),
            "needs a clone of the rule that it attacks: it cannot be cloned",
        ),
        (make("attack", "split_brain(reward_flip)"), Setting(5, 1), "reflects messages"),
    ],
)
def test_a_component_names_what_it_needs(component: Component, setting: Setting, message: str) -> None:
    with pytest.raises(Undefined, match=message) as error:
        component.check(setting)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "component, setting",
    [
        (make("algorithm", "byzpg"), replace(SERVER, has_server=True)),
        (make("channel", "delay"), Setting(5)),
        (make("aggregator", "krum"), Setting(5, inboxes={"agreement": [(4, 2)]})),
        (Oracle(), Setting(5, 1, uncloneable={"parameters": "it cannot"})),
    ],
)
def test_a_component_accepts_a_setting_that_has_what_it_needs(component: Component, setting: Setting) -> None:
    component.check(setting)


def test_an_experiment_runs_the_checks_of_plugins() -> None:
    assert Experiment.create(placement=Picky(), agents=9, byzantine=1).setting.num_byzantine == 1
    with pytest.raises(Undefined, match="picky places one Byzantine agent"):
        Experiment.create(placement=Picky(), agents=9, byzantine=2)


def test_an_attack_is_checked_if_there_are_byzantine_agents() -> None:
    assert Experiment.create(attack="alie", agents=5, byzantine=0).notes() == []
    with pytest.raises(Undefined, match="alie: rule A gives z"):
        Experiment.create(attack="alie", agents=5, byzantine=1)

"""Base classes of every kind of component: the interface that a plug-in implements.

Every component is a frozen dataclass. Its fields are its hyper-parameters, typed and bounded with `Annotated[float,
Field(gt=0, description="...")]`. They are validated at every construction. A component holds no state: state is passed
in and returned as a flat dict of tensors, so that a run can be checkpointed, resumed and cloned.

Base classes that several components share have modules of their own, which are imported where they are needed: for
example `byzbench.core.gossip`, `byzbench.core.oracle_attack` and `byzbench.core.gymnasium_task`.

Symbols: K agents, f of them Byzantine, d parameters, n messages in an inbox, E directed edges.
"""

from byzbench.core.adversary import Attack as Attack
from byzbench.core.adversary import ByzantineMessages as ByzantineMessages
from byzbench.core.adversary import EnvHooks as EnvHooks
from byzbench.core.adversary import MessageAttack as MessageAttack
from byzbench.core.agreement import Agreement as Agreement
from byzbench.core.agreement import AgreementReport as AgreementReport
from byzbench.core.agreement import Measure as Measure
from byzbench.core.channel import Channel as Channel
from byzbench.core.channel import MessageFormat as MessageFormat
from byzbench.core.communication import Communication as Communication
from byzbench.core.component import Categorical as Categorical
from byzbench.core.component import Component as Component
from byzbench.core.component import FloatRange as FloatRange
from byzbench.core.component import State as State
from byzbench.core.context import AttackContext as AttackContext
from byzbench.core.context import RuleOracle as RuleOracle
from byzbench.core.federation import Federation as Federation
from byzbench.core.federation import MessageServer as MessageServer
from byzbench.core.graphs import Coin as Coin
from byzbench.core.graphs import Placement as Placement
from byzbench.core.graphs import Topology as Topology
from byzbench.core.inbox import Inbox as Inbox
from byzbench.core.json_object import JsonObject as JsonObject
from byzbench.core.learning import MAX_UNIT_VECTOR as MAX_UNIT_VECTOR
from byzbench.core.learning import Algorithm as Algorithm
from byzbench.core.learning import Recommendation as Recommendation
from byzbench.core.learning import Task as Task
from byzbench.core.policy_family import ModulePolicyFamily as ModulePolicyFamily
from byzbench.core.policy_family import PolicyFamily as PolicyFamily
from byzbench.core.pre_aggregators import AveragingPreAggregator as AveragingPreAggregator
from byzbench.core.pre_aggregators import PreAggregator as PreAggregator
from byzbench.core.rules import Aggregator as Aggregator
from byzbench.core.rules import LinearRule as LinearRule
from byzbench.core.rules import PolicyEvaluator as PolicyEvaluator
from byzbench.core.rules import RuleContext as RuleContext
from byzbench.core.rules import RuleOutput as RuleOutput
from byzbench.core.rules import RuleTraits as RuleTraits
from byzbench.core.scenario import Absence as Absence
from byzbench.core.scenario import RewardBatch as RewardBatch
from byzbench.core.scenario import Scenario as Scenario
from byzbench.core.schedule import Schedule as Schedule
from byzbench.core.setting import Setting as Setting
from byzbench.core.steered import SteeredAttack as SteeredAttack
from byzbench.core.threat_model import On as On
from byzbench.core.threat_model import ThreatModel as ThreatModel
from byzbench.core.timing import Timing as Timing
from byzbench.geometry.pairwise_distances import weighted_sum as weighted_sum
from byzbench.literals import literal as literal

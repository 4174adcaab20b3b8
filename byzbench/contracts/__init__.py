"""Base classes of every kind of component: the interface that a plug-in implements.

Every component is a frozen dataclass. Its fields are its hyper-parameters, typed and bounded with `Annotated[float,
Field(gt=0, description="...")]`. They are validated at every construction. A component holds no state: state is passed
in and returned as a flat dict of tensors, so that a run can be checkpointed, resumed and cloned.

Symbols: K agents, f of them Byzantine, d parameters, n messages in an inbox, E directed edges.
"""

from byzbench.contracts.adversary import Attack as Attack
from byzbench.contracts.adversary import MessageAttack as MessageAttack
from byzbench.contracts.adversary import On as On
from byzbench.contracts.adversary import Speech as Speech
from byzbench.contracts.adversary import Taps as Taps
from byzbench.contracts.adversary import Threat as Threat
from byzbench.contracts.channel import Channel as Channel
from byzbench.contracts.channel import Format as Format
from byzbench.contracts.component import Choice as Choice
from byzbench.contracts.component import Component as Component
from byzbench.contracts.component import Range as Range
from byzbench.contracts.component import State as State
from byzbench.contracts.learning import Algorithm as Algorithm
from byzbench.contracts.learning import Recommendation as Recommendation
from byzbench.contracts.learning import Task as Task
from byzbench.contracts.rules import Aggregator as Aggregator
from byzbench.contracts.rules import Agreement as Agreement
from byzbench.contracts.rules import Judge as Judge
from byzbench.contracts.rules import LinearRule as LinearRule
from byzbench.contracts.rules import Report as Report
from byzbench.contracts.rules import weighted_sum as weighted_sum
from byzbench.contracts.seats import Coin as Coin
from byzbench.contracts.seats import Placement as Placement
from byzbench.contracts.seats import Topology as Topology
from byzbench.contracts.steered import SteeredAttack as SteeredAttack

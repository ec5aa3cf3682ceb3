"""Which panel, and which policy? Try them offline on simulated agents before a model is paid for."""

from madflow.testing.panels.explore import Explored, explore
from madflow.testing.panels.model import AgentModel, PanelModel, QuestionKind, agents

PANEL = PanelModel(
    agents=agents(3, competence=(0.5, 0.0, -0.5)),
    kinds=(
        QuestionKind(easiness=2.0, share=0.5),  # nearly every seat is right
        QuestionKind(easiness=0.0, temptation=0.3, share=0.3),
        QuestionKind(easiness=-2.0, temptation=0.9, share=0.2),  # nearly all fall for the same wrong answer
    ),
    options=4,
)
BAD = AgentModel(role="adversary", tempting=0.7)  # argues for one wrong answer, whatever is said


def main(questions: int = 150) -> list[Explored]:
    return explore(
        PANEL,
        ["vote", "debate", "robust"],
        seats=(3, 5),
        bad=(0.0, 0.3),
        misleading=BAD,
        questions=questions,
        seed=1,
    )


if __name__ == "__main__":
    print("seats bad  policy   accuracy      tokens  collapses")
    for row in main():
        print(
            f"{row.seats:5} {row.bad:3}  {row.policy:7}  "
            f"{row.accuracy:.3f} ±{row.error:.3f} {row.tokens:7.0f}  {row.collapses:.3f}"
        )

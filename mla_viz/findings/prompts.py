"""The prompts of name recall: which character does a story mean at its end? Knows no model.

Each prompt introduces two of ten names and ends where one of them must follow. The prompts are our
own.
"""

NAMES = ("Lily", "Tim", "Tom", "Ben", "Max", "Sue", "Sam", "Mia", "Lucy", "Anna")
PROMPTS = (
    "{a} was a little fox. {b} was a big bear. One day the big bear was hungry. The bear's name"
    " was {b}. The fox's name was",
    "{a} had a red ball. {b} had a blue kite. The ball was lost, so they looked everywhere. They"
    " found the red ball and gave it back to",
    "Once upon a time there was a cat named {a}. The cat had a friend, a dog named {b}. The dog ran"
    ' away. The cat was sad. Mom asked, "What is wrong,',
    "One day {a} made a cake. {b} saw the cake and ate it all. When mom came home, she was angry."
    ' "I am sorry that I ate the cake," said {b}. "I made it for you," said',
    "{a} lived in a small house. {b} lived in a big castle. One night it rained. Water came into"
    " the small house of",
    'There was a boy called {a}. He had a sister called {b}. His sister was sick. "Get well'
    ' soon," said',
    '{b} wanted to play, but {a} was tired. "I want to sleep," said',
    "{a} liked to sing and {b} liked to dance. They put on a show. First came the dance of {b}."
    " Then came the song of",
    '{a} climbed the tall tree. {b} stayed on the ground. "Be careful up there!" called {b}. "I'
    ' can see the whole park," called',
    '{a} lost a shoe in the mud. {b} helped to look for it. Then {b} found the shoe. "Thank you'
    ' so much, {b}!" said',
    "A bird named {a} could not fly. A bird named {b} showed how to do it. Soon both could fly."
    ' "You are a good teacher, {b}," said',
    "{b} gave {a} a present. In the box was a toy car. {a} was very happy and hugged {b}. Now the"
    " toy car belonged to",
)
CHANCE = 1 / len(NAMES)


def recall_items() -> list[tuple[str, str]]:
    """Every prompt with every name as the answer, and another name, at a changing distance."""
    items = []
    for number, prompt in enumerate(PROMPTS):
        for place, answer in enumerate(NAMES):
            other = NAMES[(place + 1 + number % (len(NAMES) - 1)) % len(NAMES)]
            items.append((prompt.format(a=answer, b=other), answer))
    return items

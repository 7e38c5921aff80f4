from __future__ import annotations

from fewpairs.data.notes import Note, gathered


def test_one_sentence_for_each_oddity_with_the_first_files() -> None:
    notes = {
        f"{number}.nii": [Note("volumes without a unit"), *[Note("odd ones", "5 mm")] * (number == 3)]
        for number in range(7)
    }
    assert gathered(notes) == (
        "7 volumes without a unit: 0.nii; 1.nii; 2.nii; 3.nii; 4.nii; and 2 more",
        "1 odd ones: 3.nii (5 mm)",
    )
    assert gathered({}) == ()

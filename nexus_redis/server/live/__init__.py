"""The live state of all budgets for the page: one look a second for a process, however many subscribers it has."""

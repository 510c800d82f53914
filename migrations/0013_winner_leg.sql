-- Which leg of a paired task won, by its version; NULL where the task had no pair, or its winner event named none.
ALTER TABLE tasks ADD COLUMN winner_leg integer CHECK (winner_leg >= 1);

-- unsound: CHECK constraint failed in t
CREATE TABLE t (x INT CHECK (x > 0));
CREATE TABLE sound (x INT CHECK (x > 0));
PRAGMA ignore_check_constraints = ON;
INSERT INTO t VALUES (-1), (-2);
INSERT INTO sound VALUES (1);

-- unsound: t: cannot be checked: cannot be read here: unknown function: app_function()
-- unsound: CHECK constraint failed in u
-- unsound: NULL value in t.note
CREATE TABLE t (x INT CHECK (app_function(x) > 0), note TEXT);
CREATE TABLE u (x INT CHECK (x > 0));
INSERT INTO t VALUES (1, NULL);
PRAGMA ignore_check_constraints = ON;
INSERT INTO u VALUES (-1);
PRAGMA writable_schema = ON;
UPDATE sqlite_master SET sql = replace(sql, 'note TEXT', 'note TEXT NOT NULL') WHERE name = 't';

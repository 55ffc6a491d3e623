-- unsound: malformed database schema (t) - near "FROM": syntax error
-- not compared: t: SQLite VERSION cannot read its definition
CREATE TABLE t (a);
INSERT INTO t VALUES (1);
CREATE TABLE sound (a);
INSERT INTO sound VALUES (1);
PRAGMA writable_schema = ON;
UPDATE sqlite_master SET sql = 'CREATE TABLE t (a VECTOR FROM THE FUTURE)' WHERE name = 't';

-- unsound: malformed database schema (t) - unknown datatype for t.a: "VECTOR"
-- not compared: t: SQLite VERSION cannot read its definition
PRAGMA auto_vacuum = 1;
CREATE TABLE sound (a);
INSERT INTO sound VALUES (1);
CREATE TABLE t (a INT) STRICT;
INSERT INTO t VALUES (1);
PRAGMA writable_schema = ON;
UPDATE sqlite_master SET sql = 'CREATE TABLE t (a VECTOR) STRICT' WHERE name = 't';

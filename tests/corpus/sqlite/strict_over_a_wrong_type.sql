-- unsound: non-INT value in t.x
CREATE TABLE t (x TEXT);
INSERT INTO t VALUES ('a');
PRAGMA writable_schema = ON;
UPDATE sqlite_master SET sql = 'CREATE TABLE t (x INT) STRICT' WHERE name = 't';

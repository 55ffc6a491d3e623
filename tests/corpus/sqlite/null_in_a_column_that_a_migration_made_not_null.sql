-- unsound: NULL value in t.note
CREATE TABLE t (x INT, note TEXT);
INSERT INTO t VALUES (1, NULL), (2, NULL), (3, 'a');
PRAGMA writable_schema = ON;
UPDATE sqlite_master SET sql = 'CREATE TABLE t (x INT, note TEXT NOT NULL)' WHERE name = 't';

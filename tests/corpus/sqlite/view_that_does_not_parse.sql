-- unsound: malformed database schema (v) - near "SELEC": syntax error
CREATE TABLE t (a);
INSERT INTO t VALUES (1);
CREATE VIEW v AS SELECT * FROM t;
PRAGMA writable_schema = ON;
UPDATE sqlite_master SET sql = 'CREATE VIEW v AS SELEC a FROM t' WHERE name = 'v';

-- unsound: malformed database schema (r) - near "INSRT": syntax error
CREATE TABLE t (a);
INSERT INTO t VALUES (1);
CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO t VALUES (2); END;
PRAGMA writable_schema = ON;
UPDATE sqlite_master SET sql = 'CREATE TRIGGER r AFTER INSERT ON t BEGIN INSRT; END' WHERE name = 'r';

-- Large objects of two owners, with grants and comments, one of them empty.
-- as app
SELECT lo_from_bytea(70001, '\x00ff'), lo_create(70002);
COMMENT ON LARGE OBJECT 70001 IS 'a picture';
GRANT SELECT ON LARGE OBJECT 70001 TO reporting;
CREATE TABLE t (a int);
INSERT INTO t VALUES (1);

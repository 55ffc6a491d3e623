PRAGMA page_size = 512;
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA application_id = -5;
PRAGMA user_version = -2147483648;
CREATE TABLE t (a);
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) INSERT INTO t SELECT randomblob(300) FROM n;
DELETE FROM t WHERE rowid % 3 = 0;

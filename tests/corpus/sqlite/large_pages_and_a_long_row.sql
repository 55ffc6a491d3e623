PRAGMA page_size = 65536;
CREATE TABLE t (a, b);
INSERT INTO t VALUES (zeroblob(3000000), printf('%.*c', 1000000, 'x'));

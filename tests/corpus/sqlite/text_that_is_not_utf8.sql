CREATE TABLE t (a TEXT UNIQUE, b);
INSERT INTO t VALUES (CAST(x'ff00fe' AS TEXT), x'ff'), (CAST(x'c328' AS TEXT), CAST(x'eda080' AS TEXT)), ('a' || char(0) || 'b', 1);

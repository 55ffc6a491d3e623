CREATE TABLE t (a, b AS (app_function(a)), c AS (app_function(a)) STORED);
CREATE TABLE u (a);
CREATE INDEX by_value ON u (app_function(a));
CREATE INDEX some ON u (a) WHERE app_function(a) > 1;
CREATE VIEW v AS SELECT app_function(a) FROM t;
CREATE TRIGGER after_u AFTER INSERT ON u BEGIN INSERT INTO t (a) VALUES (app_function(new.a)); END;
INSERT INTO u VALUES (1), (2), (3);

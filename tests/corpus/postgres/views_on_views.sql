-- Views, a materialized view that is not filled, one on another, a view with rules, a function of a view's row type.
-- as app
CREATE TABLE t (id int PRIMARY KEY, a text);
INSERT INTO t VALUES (1, 'x');
CREATE VIEW v AS SELECT id, a, count(*) AS n FROM t GROUP BY id;
CREATE MATERIALIZED VIEW m AS SELECT * FROM v;
CREATE MATERIALIZED VIEW mm AS SELECT * FROM m WITH NO DATA;
CREATE UNIQUE INDEX ON m (id);
CREATE FUNCTION of_view(v) RETURNS bigint LANGUAGE sql AS 'SELECT $1.n';
CREATE RULE ins AS ON INSERT TO v DO INSTEAD INSERT INTO t VALUES (NEW.id, NEW.a);
CREATE VIEW checked WITH (security_barrier) AS SELECT * FROM t WHERE id > 0 WITH CASCADED CHECK OPTION;

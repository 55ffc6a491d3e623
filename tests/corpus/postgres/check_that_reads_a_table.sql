-- A CHECK calls a function that reads another table, which may not be filled yet when the rows come.
-- as app
CREATE TABLE zz_rate (code text PRIMARY KEY);
CREATE TABLE aa_sale (n int, code text);
CREATE FUNCTION known(c text) RETURNS bool LANGUAGE sql
  AS 'SELECT EXISTS (SELECT FROM public.zz_rate r WHERE r.code = c)';
INSERT INTO zz_rate VALUES ('a');
INSERT INTO aa_sale SELECT i, 'a' FROM generate_series(1, 5000) i;
ALTER TABLE aa_sale ADD CONSTRAINT is_known CHECK (known(code));

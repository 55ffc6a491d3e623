-- A tool for change data capture had a superuser make a publication of all tables.
-- as app
CREATE TABLE customers AS SELECT i FROM generate_series(1, 100) i;
-- as superuser
CREATE PUBLICATION cdc FOR ALL TABLES;

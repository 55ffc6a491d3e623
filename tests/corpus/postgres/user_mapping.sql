-- Options of a user mapping that the role which dumps may not see.
-- as superuser
CREATE EXTENSION postgres_fdw;
GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO app;
-- as app
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'far.example.org');
CREATE USER MAPPING FOR reporting SERVER far OPTIONS (user 'reader', password 'not-a-real-one');
CREATE FOREIGN TABLE there (a int) SERVER far;
CREATE TABLE here AS SELECT 1 AS a;

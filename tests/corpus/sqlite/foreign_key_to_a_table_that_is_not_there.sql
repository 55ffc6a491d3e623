-- unsound: town: breaks a foreign key to country
CREATE TABLE town (name TEXT, country TEXT REFERENCES country (code));
INSERT INTO town VALUES ('Tula', 'mx');

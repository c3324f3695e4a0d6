-- The shop of the demo. The gateway signs in as `shop`, which owns the tables and could drop them.
CREATE ROLE shop LOGIN PASSWORD :'secret';
CREATE DATABASE shop OWNER shop;
\connect shop
SET ROLE shop;
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, city text NOT NULL, email text);
INSERT INTO customers VALUES
  (1, 'Ada Lovelace', 'London', 'ada@example.com'),
  (2, 'Emmy Noether', 'Erlangen', 'emmy@example.com'),
  (3, 'Grace Hopper', 'New York', 'grace@example.com');
CREATE TABLE orders (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  customer int NOT NULL REFERENCES customers,
  item text NOT NULL
);

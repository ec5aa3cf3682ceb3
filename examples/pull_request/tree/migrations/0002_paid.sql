-- Unpaid invoices are summed on every page: keep them apart in an index.
CREATE INDEX IF NOT EXISTS invoices_unpaid ON invoices (paid, cents);

-- Customers are searched by name.
CREATE INDEX IF NOT EXISTS invoices_customer ON invoices (customer);

"""The book: settings of its chapters, runner, freshness, figures, site."""

"""Models from elsewhere and to elsewhere: importing, exporting, and watching other loops."""

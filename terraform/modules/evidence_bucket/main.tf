# SPDX-License-Identifier: GPL-3.0-or-later
# Three buckets: evidence that nobody can change, keys that can be erased, a lake that can be rebuilt.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  region  = data.aws_region.current.name
  account = data.aws_caller_identity.current.account_id

  # Whether, and for how long, a bucket's objects are locked by default.
  buckets = {
    evidence = { mode = var.evidence_lock.mode, days = var.evidence_lock.days }
    keys     = { mode = "GOVERNANCE", days = var.keys_lock_days }
    lake     = null
  }
  locks = { for name, lock in local.buckets : name => lock if lock != null }

  evidence_readme = jsonencode({
    format  = 1
    keys    = "${local.urls["keys"]}/keys"
    product = "trailgate"
  })
  other_readme = jsonencode({
    evidence = local.urls["evidence"]
    format   = 1
    keys     = "${local.urls["keys"]}/keys"
    lake     = local.urls["lake"]
    product  = "trailgate"
  })
  urls = { for name, bucket in aws_s3_bucket.this : name => "s3://${bucket.bucket}" }
}

resource "aws_kms_key" "this" {
  description         = "Trailgate ${var.name}: evidence, wrapped keys and lake at rest"
  enable_key_rotation = true
  # What a lost key hides is gone: as much time as there is to notice.
  deletion_window_in_days = 30
  policy                  = data.aws_iam_policy_document.key.json
  tags                    = var.tags
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.name}-trailgate"
  target_key_id = aws_kms_key.this.key_id
}

data "aws_iam_policy_document" "key" {
  # The account's own policies decide; without this statement nobody could manage the key again.
  statement {
    sid       = "Account"
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${data.aws_partition.current.partition}:iam::${local.account}:root"]
    }
  }
}

resource "aws_s3_bucket" "this" {
  for_each = local.buckets

  bucket              = "${var.name}-${each.key}"
  object_lock_enabled = each.value != null
  force_destroy       = var.force_destroy
  tags                = var.tags
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_object_lock_configuration" "this" {
  for_each = local.locks

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    default_retention {
      mode = each.value.mode
      days = each.value.days
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.this.arn
    }
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = aws_s3_bucket.this

  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

data "aws_iam_policy_document" "tls_only" {
  for_each = aws_s3_bucket.this

  statement {
    sid       = "OnlyTls"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [each.value.arn, "${each.value.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id
  policy = data.aws_iam_policy_document.tls_only[each.key].json

  depends_on = [aws_s3_bucket_public_access_block.this, aws_s3_object.readme]
}

resource "aws_s3_bucket_lifecycle_configuration" "lake" {
  bucket = aws_s3_bucket.this["lake"].id

  rule {
    id     = "age"
    status = "Enabled"

    filter {
      prefix = ""
    }

    transition {
      days          = var.lake_days.infrequent_access
      storage_class = "STANDARD_IA"
    }

    expiration {
      days = var.lake_days.expire
    }

    noncurrent_version_expiration {
      noncurrent_days = 7
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

# For a reader who was given only one bucket: where the others are. The gateway puts the same bytes.
resource "aws_s3_object" "readme" {
  for_each = {
    evidence = "evidence/README.json"
    keys     = "README.json"
    lake     = "README.json"
  }

  bucket       = aws_s3_bucket.this[each.key].id
  key          = each.value
  content_type = "application/json"
  # S3 takes an object under retention only with a checksum.
  checksum_algorithm = "SHA256"
  force_destroy      = var.force_destroy
  content            = each.key == "evidence" ? local.evidence_readme : local.other_readme

  depends_on = [
    aws_s3_bucket_object_lock_configuration.this,
    aws_s3_bucket_server_side_encryption_configuration.this,
  ]

  # Locked as all objects here are: a later version of this module leaves it alone.
  lifecycle {
    ignore_changes = all
  }
}
